"""The training images nearest to samples: has the model learned its images by heart?"""
